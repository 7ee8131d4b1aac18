package libvirt

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/internal/testenv"
)

// runCommands hold what YAML and shells could take for their own.
func runCommands() []string {
	return []string{"apt-get update", `echo "a: b" 'c # d' \t é {{.Name}} > /etc/motd`, "cat <<'X'\n- one\n: two\nX"}
}

func TestUserDataOfABuildIsAsInTheGoldenFile(t *testing.T) {
	got := runUserData(runCommands())
	golden := filepath.Join("testdata", "build-user-data.yml")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestUserDataOfABuildRunsTheCommandsAndThenCleansUp reads it as cloud-init does:
// YAML with a list of argument lists.
func TestUserDataOfABuildRunsTheCommandsAndThenCleansUp(t *testing.T) {
	text := runUserData(runCommands())
	if !strings.HasPrefix(text, "#cloud-config\n") {
		t.Errorf("no cloud-config: %q", text)
	}
	var data struct {
		RunCmd [][]string `yaml:"runcmd"`
	}
	if err := decode(t, text, &data); err != nil {
		t.Fatal(err)
	}
	if len(data.RunCmd) != 1 || len(data.RunCmd[0]) != 3 || data.RunCmd[0][0] != "sh" || data.RunCmd[0][1] != "-c" {
		t.Fatalf("runcmd is %q", data.RunCmd)
	}
	script := data.RunCmd[0][2]
	if !strings.HasPrefix(script, "set -e\n"+strings.Join(runCommands(), "\n")+"\ncloud-init clean") || !strings.HasSuffix(script, "\nsync\npoweroff\n") {
		t.Errorf("the script is\n%s", script)
	}

	// What a failing command must prevent, with programs that only say their names.
	testenv.Need(t, testenv.Program("sh"))
	folder := t.TempDir()
	for _, program := range []string{"cloud-init", "rm", "sync", "poweroff"} {
		if err := os.WriteFile(filepath.Join(folder, program), []byte("#!/bin/sh\necho "+program+" \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for command, want := range map[string]string{
		"echo done": "done\ncloud-init clean --logs --seed\nrm -f /etc/ssh/ssh_host_",
		"false":     "",
	} {
		var data struct {
			RunCmd [][]string `yaml:"runcmd"`
		}
		if err := yaml.Unmarshal([]byte(runUserData([]string{command})), &data); err != nil {
			t.Fatal(err)
		}
		script := strings.ReplaceAll(data.RunCmd[0][2], "/etc/machine-id", filepath.Join(folder, "machine-id"))
		cmd := exec.CommandContext(testContext(t), "sh", "-c", script)
		cmd.Env = []string{"PATH=" + folder}
		out, err := cmd.Output()
		if (err != nil) != (want == "") || !strings.HasPrefix(string(out), want) || want != "" && !strings.HasSuffix(string(out), "\nsync\npoweroff\n") {
			t.Errorf("%s: %q, %v", command, out, err)
		}
	}
}
