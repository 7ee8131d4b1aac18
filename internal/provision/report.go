package provision

import (
	"fmt"
	"regexp"
	"strings"
)

// reportPrefix begins every line of the first-boot report on the console.
const reportPrefix = "scalehook-report: "

// reportScript is user data that tries at the first boot what verify would try from
// inside, and says it on the console. It needs nothing but a shell and ping, so that
// CirrOS runs it too.
func reportScript(outbound []string) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n# Made by scalehook: says on the console what this guest reaches.\nsay() { echo \"" + reportPrefix + "$1\" >/dev/console; }\n")
	b.WriteString("try() { n=0; until eval \"$2\" >/dev/null 2>&1; do n=$((n+1)); if [ $n -ge 10 ]; then say \"$1 failed\"; return; fi; sleep 3; done; say \"$1 ok\"; }\n(\n")
	for _, host := range outbound {
		for _, t := range trials(host) {
			fmt.Fprintf(&b, "try '%s' '%s'\n", t.name, t.command)
		}
	}
	b.WriteString("say end\n) &\n")
	return b.String()
}

// trial is something that a guest tries.
type trial struct{ name, command string }

// trials are what is tried for an address or a name. A host was validated: it has no
// character that means anything to a shell.
func trials(host string) []trial {
	ping := trial{"ping " + host, "ping -c 3 -W 5 " + host}
	if isAddress(host) {
		return []trial{ping}
	}
	// Which of them there is depends on the guest; some fail for a name that has no
	// IPv6 address.
	return []trial{{"resolve " + host, "nslookup " + host + " || nslookup -type=a " + host + " || getent hosts " + host}, ping}
}

var reportRE = regexp.MustCompile(`(?m)` + regexp.QuoteMeta(reportPrefix) + `(.*?) (ok|failed)\s*$`)

// parseReport reads a console. complete says that the report came to its end.
func parseReport(console string) (results map[string]bool, complete bool) {
	results = map[string]bool{}
	for _, m := range reportRE.FindAllStringSubmatch(console, -1) {
		results[m[1]] = m[2] == "ok"
	}
	return results, strings.Contains(console, reportPrefix+"end")
}
