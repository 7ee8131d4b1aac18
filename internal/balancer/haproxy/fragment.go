package haproxy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/scalehook/scalehook/internal/fault"
	"github.com/scalehook/scalehook/internal/scaling"
)

// FragmentServer is one server line, without the word server.
type FragmentServer struct {
	Name    string
	Address string // ip:port
	Options string // the checks and the pool's server options
}

// fragmentData is what a template sees.
type fragmentData struct {
	Group, Backend string
	Servers        []FragmentServer
}

// Fragment renders the backend section with the given servers from the pool's
// template; without servers it is what haproxy can be started with for the first
// time. It checks that the section names the backend and lists every server. That
// haproxy accepts the rest is not checked, since a driver runs no program: a
// master that is reloaded with a bad file says so and keeps its workers.
func (p *Pool) Fragment(servers []FragmentServer) ([]byte, error) {
	path := p.cfg.Fragment.Template
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the template of the fragment: %w", err)
	}
	tmpl, err := template.New(filepath.Base(path)).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("read the template of the fragment: %w", err)
	}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, fragmentData{Group: p.group, Backend: p.cfg.Backend, Servers: servers}); err != nil {
		return nil, fmt.Errorf("render the fragment: %w", err)
	}
	section, listed := false, map[string]int{}
	for line := range strings.Lines(out.String()) {
		words := strings.Fields(line)
		if len(words) >= 2 && words[0] == "backend" && words[1] == p.cfg.Backend {
			section = true
		}
		if len(words) >= 3 && words[0] == "server" {
			listed[words[1]]++
		}
	}
	if !section {
		return nil, fmt.Errorf("the fragment from %s has no line %q", path, "backend "+p.cfg.Backend)
	}
	for _, s := range servers {
		if listed[s.Name] != 1 {
			return nil, fmt.Errorf("the fragment from %s lists server %s %d times instead of once", path, s.Name, listed[s.Name])
		}
	}
	return out.Bytes(), nil
}

// writeFragment makes the file list exactly these members. An unchanged file is
// not touched.
func (p *Pool) writeFragment(members []wished) error {
	path := p.cfg.Fragment.File
	if path == "" {
		return nil
	}
	slices.SortFunc(members, func(a, b wished) int { return cmp.Compare(a.server, b.server) })
	servers := make([]FragmentServer, 0, len(members))
	for _, m := range members {
		servers = append(servers, FragmentServer{Name: m.server, Address: m.addr.String(), Options: strings.Join(p.options, " ")})
	}
	content, err := p.Fragment(servers)
	if err != nil {
		return scaling.WithClass(scaling.Permanent, err)
	}
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return nil
	}
	if err := replace(path, content); err != nil {
		return scaling.WithClass(scaling.Temporary, fmt.Errorf("write the fragment: %w", err))
	}
	p.logger.Info("haproxy fragment written", "file", path, "servers", len(servers))
	if after := p.endpoints[0].stats.after; after != nil {
		after("write " + path)
	}
	return nil
}

// replace writes a file so that a reader, and the next start after a power cut,
// finds the old or the new content and nothing between. What a kill leaves is
// overwritten by the next write. The temporary name does not end in .cfg: haproxy
// loads what does from a folder. The caller is the only writer.
func replace(path string, content []byte) (err error) {
	mode := os.FileMode(0o644)
	if old, err := os.Stat(path); err == nil {
		mode = old.Mode().Perm()
	}
	dir := filepath.Dir(path)
	temporary := filepath.Join(dir, "."+filepath.Base(path)+".new")
	fault.Point("haproxy.write fragment.before")
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary)
		}
	}()
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err != nil {
		return err
	}
	fault.Point("haproxy.write fragment.written")
	if err := os.Rename(temporary, path); err != nil {
		return err
	}
	fault.Point("haproxy.write fragment.after")
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
