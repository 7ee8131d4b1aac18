package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// addExamples gives the commands below root the examples of their help, where they
// have none of their own.
func addExamples(root *cobra.Command) {
	for _, c := range root.Commands() {
		addExamples(c)
		_, path, _ := strings.Cut(c.CommandPath(), " ")
		if text := exampleOf(path); c.Example == "" && text != "" {
			c.Example = "  " + strings.ReplaceAll(text, "\n", "\n  ")
		}
	}
}

// exampleOf is what one types to begin with a command.
func exampleOf(path string) string {
	return map[string]string{
		"serve": `scalehook serve --config.file scalehook.yml --storage.path data
scalehook serve --config.file scalehook.yml --observe --log.level debug`,
		"check-config": `scalehook check-config scalehook.yml
scalehook check-config --offline scalehook.yml
scalehook check-config --prometheus prometheus.yml --alertmanager alertmanager.yml scalehook.yml
scalehook check-config --diff scalehook.yml`,
		"restore": `scalehook restore --storage.path /var/lib/scalehook before-upgrade.db`,
		"version": `scalehook version`,
		"groups": `scalehook groups
scalehook groups web -o yaml
scalehook groups -o json | jq -r '.[] | select(.mode != "full") | .name'`,
		"instances": `scalehook instances
scalehook instances web -o json`,
		"activities": `scalehook activities web -n 5
scalehook activities -o yaml -n 1`,
		"explain": `scalehook explain web
scalehook explain web --last 20`,
		"scale-out": `scalehook scale-out web -n 2 --hold 30m
scalehook scale-out web --idempotency-key deploy-42`,
		"scale-in": `scalehook scale-in web
scalehook scale-in web --instance web-3`,
		"set-desired": `scalehook set-desired web 3 --hold 1h`,
		"handover":    `scalehook handover web`,
		"pause": `scalehook pause web --for 1h --reason "release 1.4"
scalehook pause web --direction in`,
		"resume": `scalehook resume web`,
		"protect": `scalehook protect web web-2
scalehook protect web web-2 --off`,
		"standby": `scalehook standby web web-2
scalehook standby web web-2 --off`,
		"cleanup": `scalehook cleanup
scalehook cleanup web-7 --yes`,
		"healthy": `scalehook healthy --ready
scalehook healthy --url http://127.0.0.1:10071`,
		"reload": `scalehook reload`,
		"backup": `scalehook backup before-upgrade.db
scalehook backup --storage.path /var/lib/scalehook stopped.db`,
		"rules": `scalehook rules --scrape-interval 5s > scalehook.rules.yml
scalehook rules --compat > compat.yml`,
		"example": `scalehook example kvm
scalehook example alertmanager
scalehook example prometheus --merge /etc/prometheus/prometheus.yml > prometheus.patch
sudo patch /etc/prometheus/prometheus.yml prometheus.patch`,
		"template import": `scalehook template import debian-12.qcow2 --name web-1.qcow2 --pool default`,
		"host show":       `scalehook host show`,
		"host remove":     `sudo scalehook host remove --dry-run`,
		"provision": `scalehook example provision > provision.yml
scalehook provision provision.yml --dry-run
scalehook provision provision.yml`,
		"snapshot": `scalehook snapshot provision.yml
scalehook snapshot provision.yml --group web --keep 3`,
		"doctor": `scalehook doctor --config.file scalehook.yml
scalehook doctor --receiver ops-scalehook --token-file operator.token -o json
scalehook doctor --cloud microstack -o json`,
		"suggest": `scalehook suggest web --config.file scalehook.yml
scalehook suggest web --high 75% --low 25%`,
		"top": `scalehook top
scalehook top web`,
		"release": `scalehook release web`,
		"verify":  `scalehook verify provision.yml`,
	}[path]
}
