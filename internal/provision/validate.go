package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Words for RuleSpec.From and ServiceSpec.Balancer.
const (
	fromSubnet = "subnet"
	fromHost   = "host"
	fromAny    = "any"
)

var (
	// A mark travels in tags of at most 60 characters, without slash and comma.
	nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`)
	// What is handed to a shell in the guest has only these.
	hostRE = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?$`)
	userRE = regexp.MustCompile(`^[a-z_][a-z0-9_.-]{0,31}$`)
)

// problem is something wrong at a line of the file.
type problem struct {
	line int
	text string
}

// problems collects all that is wrong with the file.
type problems struct {
	file *File
	list []problem
}

// addf notes a problem at the place that the path leads to, keys with dots between.
func (p *problems) addf(path, format string, args ...any) {
	one := problem{line: line(p.file.root, path), text: path + ": " + fmt.Sprintf(format, args...)}
	if !slices.Contains(p.list, one) {
		p.list = append(p.list, one)
	}
}

func (p *problems) err() error {
	slices.SortStableFunc(p.list, func(a, b problem) int { return a.line - b.line })
	errs := make([]error, len(p.list))
	for i, one := range p.list {
		errs[i] = fmt.Errorf("%s:%d: %s", p.file.path, one.line, one.text)
	}
	return errors.Join(errs...)
}

// line is where the deepest part of the path stands.
func line(node *yaml.Node, path string) int {
	at := 1
	if node != nil && node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	for key := range strings.SplitSeq(path, ".") {
		if node == nil {
			return at
		}
		if i, err := strconv.Atoi(key); err == nil && node.Kind == yaml.SequenceNode && i < len(node.Content) {
			node = node.Content[i]
			at = node.Line
			continue
		}
		var next *yaml.Node
		for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == key {
				next, at = node.Content[i+1], node.Content[i].Line
			}
		}
		node = next
	}
	return at
}

var (
	lineRE    = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)
	unknownRE = regexp.MustCompile("^field (.+) not found in type .*$")
	addressRE = regexp.MustCompile(`^(?:netip\.)?Parse(Addr|Prefix)\("(.*?)"\)`)
	valueRE   = regexp.MustCompile(`"([^"]+)"`)
	kindRE    = regexp.MustCompile("^cannot unmarshal !!\\w+(?: `(.*)`)? into (.+)$")
)

// worded makes the decoder's errors ones for people.
func (f *File) worded(err error) error {
	texts := []string{err.Error()}
	if wrong, ok := errors.AsType[*yaml.TypeError](err); ok {
		texts = wrong.Errors
	}
	p := problems{file: f}
	for _, text := range texts {
		at := 1
		text = strings.TrimPrefix(text, "yaml: ")
		if m := lineRE.FindStringSubmatch(text); m != nil {
			at, _ = strconv.Atoi(m[1])
			text = m[2]
		} else if m := valueRE.FindStringSubmatch(text); m != nil {
			at = quoted(f.root, m[1]) // an address or a range that does not parse is named by its value alone
		}
		if m := unknownRE.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("unknown key %q: see docs/provisioning.md for the keys there are", m[1])
		} else if m := addressRE.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("%q is no address like 192.168.100.1", m[2])
			if m[1] == "Prefix" {
				text = fmt.Sprintf("%q is no range like 192.168.100.0/24", m[2])
			}
		} else if m := kindRE.FindStringSubmatch(text); m != nil {
			text = fmt.Sprintf("%q does not belong here: see docs/provisioning.md", m[1])
			if m[2] == "time.Duration" {
				text = fmt.Sprintf("%q is not a duration: write it with a unit, like 90s or 5m", m[1])
			}
		}
		p.list = append(p.list, problem{line: at, text: text})
	}
	return p.err()
}

// quoted is the line of the first value with this text.
func quoted(node *yaml.Node, text string) int {
	if node == nil {
		return 1
	}
	if node.Kind == yaml.ScalarNode && node.Value == text {
		return node.Line
	}
	for _, c := range node.Content {
		if at := quoted(c, text); at > 1 {
			return at
		}
	}
	return 1
}

// validate finds what is wrong without asking a cloud.
func (f *File) validate() error {
	p := &problems{file: f}
	if !nameRE.MatchString(f.Name) {
		p.addf("name", "%q: it marks what is made, so it has to be 1 to 32 letters, digits, dots, dashes or underscores", f.Name)
	}
	if !nameRE.MatchString(f.Owner) {
		p.addf("owner", "%q: it has to be 1 to 32 letters, digits, dots, dashes or underscores", f.Owner)
	}
	if f.Network == nil && f.SecurityGroup == nil && f.Key == nil && f.Server == nil {
		p.addf("name", "there is nothing to provision: add network, security_group, key or server")
	}
	if err := f.Cloud.Validate(); err != nil {
		for text := range strings.Lines(err.Error()) {
			p.addf("cloud", "%s", strings.TrimSpace(text))
		}
	}
	f.validateNetwork(p)
	f.validateGroup(p)
	f.validateService(p)
	if k := f.Key; k != nil && k.Name == "" {
		p.addf("key.name", "it is missing")
	}
	f.validateServer(p)
	if s := f.Snapshot; s != nil {
		if f.Server == nil {
			p.addf("snapshot", "there is no server to make it of")
		}
		if s.Keep < 1 {
			p.addf("snapshot.keep", "%d: at least 1 has to be kept; leave snapshot out for none", s.Keep)
		}
	}
	if !userRE.MatchString(f.Verify.User) {
		p.addf("verify.user", "%q is no user of a guest", f.Verify.User)
	}
	for i, host := range f.Verify.Outbound {
		if !hostRE.MatchString(host) {
			p.addf(fmt.Sprintf("verify.outbound.%d", i), "%q is no address or name", host)
		}
	}
	return p.err()
}

func (f *File) validateNetwork(p *problems) {
	n := f.Network
	if n == nil {
		return
	}
	if n.Name == "" {
		p.addf("network.name", "it is missing")
	}
	if r := n.Router; r != nil {
		if r.Name == "" {
			p.addf("network.router.name", "it is missing")
		}
		if r.External == "" {
			p.addf("network.router.external", "it is missing: the network that the router leads to")
		}
		if n.Subnet == nil {
			p.addf("network.router", "a router needs the subnet that it routes: add network.subnet")
		}
	}
	s := n.Subnet
	if s == nil {
		return
	}
	switch {
	case !s.CIDR.IsValid():
		p.addf("network.subnet.cidr", "it is missing: a range like 192.168.100.0/24")
		return
	case !s.CIDR.Addr().Is4():
		p.addf("network.subnet.cidr", "%s: only IPv4 is provisioned", s.CIDR)
		return
	case s.CIDR != s.CIDR.Masked():
		p.addf("network.subnet.cidr", "%s has bits behind its length: %s is meant, or another length", s.CIDR, s.CIDR.Masked())
	case s.CIDR.Bits() > 29:
		p.addf("network.subnet.cidr", "%s has no room for a gateway, DHCP and servers: take a /29 or larger", s.CIDR)
	}
	if !s.CIDR.Contains(s.Gateway) || s.Gateway == s.CIDR.Masked().Addr() {
		p.addf("network.subnet.gateway", "%s is no address of a gateway in %s", s.Gateway, s.CIDR)
	}
	for i, a := range s.DNS {
		if !a.IsValid() || a.IsUnspecified() || slices.Contains(s.DNS[:i], a) {
			p.addf(fmt.Sprintf("network.subnet.dns.%d", i), "%s is no address of a DNS server, or is there twice", a)
		}
	}
}

func (f *File) validateGroup(p *problems) {
	g := f.SecurityGroup
	if g == nil {
		return
	}
	if g.Name == "" {
		p.addf("security_group.name", "it is missing")
	}
	if g.Name == "default" {
		p.addf("security_group.name", "the group \"default\" is every server's: rules of one set-up do not belong there")
	}
	for i, r := range g.Rules {
		at := fmt.Sprintf("security_group.rules.%d", i)
		switch r.Protocol {
		case "tcp", "udp":
			if _, _, err := r.ports(); err != nil {
				p.addf(at, "port: %v", err)
			}
		case "icmp":
			if r.Port != "" {
				p.addf(at, "port: icmp has none")
			}
		default:
			p.addf(at, "protocol %q: must be tcp, udp or icmp", r.Protocol)
		}
		f.validateFrom(p, at, "from", r.From, fromSubnet, fromHost, fromAny)
	}
}

// validateFrom checks who may come in: an address, a range or one of the words.
func (f *File) validateFrom(p *problems, at, key, from string, words ...string) {
	switch {
	case slices.Contains(words, from):
		if from == fromSubnet && (f.Network == nil || f.Network.Subnet == nil) {
			p.addf(at, "%s: \"subnet\" needs network.subnet: write the range", key)
		}
		return
	case from == "":
		p.addf(at, "%s is missing: an address, a range, or one of %s", key, strings.Join(words, ", "))
		return
	}
	if r, err := netip.ParsePrefix(from); err == nil {
		if r != r.Masked() {
			p.addf(at, "%s: %s has bits behind its length: %s is meant, or another length", key, from, r.Masked())
		}
		if !r.Addr().Is4() {
			p.addf(at, "%s: %s: only IPv4 is provisioned", key, from)
		}
		return
	}
	if a, err := netip.ParseAddr(from); err != nil || !a.Is4() {
		p.addf(at, "%s: %q is no IPv4 address or range, nor one of %s", key, from, strings.Join(words, ", "))
	}
}

func (f *File) validateService(p *problems) {
	s := f.Service
	if s == nil {
		return
	}
	if s.Port == 0 {
		p.addf("service.port", "it is missing")
	}
	if s.Path != "" && !strings.HasPrefix(s.Path, "/") {
		p.addf("service.path", "%q: must begin with /", s.Path)
	}
	switch {
	case s.Balancer != "":
		f.validateFrom(p, "service", "balancer", s.Balancer, fromHost)
		if f.SecurityGroup == nil {
			p.addf("service.balancer", "there is no security_group to open the port in")
		}
	case f.SecurityGroup != nil:
		p.addf("service.balancer", "it is missing: the balancer's address, or host; without it no health check passes")
	}
}

func (f *File) validateServer(p *problems) {
	s := f.Server
	if s == nil {
		if f.FloatingIP != nil {
			p.addf("floating_ip", "there is no server to give it to")
		}
		return
	}
	for _, key := range []struct{ name, value string }{{"name", s.Name}, {"image", s.Image}, {"flavor", s.Flavor}} {
		if key.value == "" {
			p.addf("server."+key.name, "it is missing")
		}
	}
	if f.Network == nil {
		p.addf("server", "there is no network to put it on: add network")
	}
	if s.BootDeadline < 0 {
		p.addf("server.boot_deadline", "%s: must be positive", s.BootDeadline)
	}
	if s.UserData != "" {
		if s.Report {
			p.addf("server.report", "not beside user_data: a guest takes one script for its first boot")
		}
		if info, err := os.Stat(f.local(s.UserData)); err != nil {
			if inner, ok := errors.AsType[*fs.PathError](err); ok {
				err = inner.Err
			}
			p.addf("server.user_data", "%s: %v", s.UserData, err)
		} else if info.Size() > maxUserData {
			p.addf("server.user_data", "%s has %d bytes, and a cloud takes at most %d", s.UserData, info.Size(), maxUserData)
		}
	}
	if a := f.FloatingIP; a != nil && a.Network == "" {
		p.addf("floating_ip.network", "it is missing: the external network that it comes from")
	}
}

// ports is the range that a rule opens.
func (r RuleSpec) ports() (low, high int, err error) {
	first, last, isRange := strings.Cut(r.Port, "-")
	if !isRange {
		last = first
	}
	low, err1 := strconv.Atoi(strings.TrimSpace(first))
	high, err2 := strconv.Atoi(strings.TrimSpace(last))
	if err1 != nil || err2 != nil || low < 1 || high > 65535 || low > high {
		return 0, 0, fmt.Errorf("%q is no port from 1 to 65535, or range of them", r.Port)
	}
	return low, high, nil
}
