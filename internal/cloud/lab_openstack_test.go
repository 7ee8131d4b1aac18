//go:build openstack

package cloud

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/internal/scaling"
)

// TestEveryWayIntoARealCloud logs in, and asks each service that there is.
func TestEveryWayIntoARealCloud(t *testing.T) {
	c := lab.Start(t, lab.Options{})
	dir := bare(t)
	var credential struct{ ID, Secret string }
	raw := c.OpenStack(t, lab.Member, "application", "credential", "create", "cloudtest")
	t.Cleanup(func() {
		if _, err := c.Client(context.WithoutCancel(t.Context()), lab.Member, "application", "credential", "delete", "cloudtest"); err != nil {
			t.Error(err)
		}
	})
	if err := json.Unmarshal(raw, &credential); err != nil {
		t.Fatal(err)
	}
	own := write(t, filepath.Join(dir, "own", "clouds.yaml"), fmt.Sprintf(
		"clouds:\n  credential:\n    auth_type: v3applicationcredential\n    auth: {auth_url: %q, application_credential_id: %s, application_credential_secret: %q}\n",
		lab.AuthURL, credential.ID, credential.Secret))
	for _, way := range []struct {
		name string
		cfg  Config
		env  map[string]string
	}{
		{"a cloud of a file", Config{Cloud: lab.Member, CloudsFile: c.CloudsFile()}, nil},
		{"OS_CLOUD", Config{}, map[string]string{"OS_CLOUD": lab.Member, "OS_CLIENT_CONFIG_FILE": c.CloudsFile()}},
		{"an rc file", Config{RCFile: c.RCFile(lab.Member)}, nil},
		{"the environment", Config{}, map[string]string{
			"OS_AUTH_URL": lab.AuthURL, "OS_USERNAME": "demo", "OS_PASSWORD": lab.Password, "OS_PROJECT_NAME": "demo", "OS_REGION_NAME": lab.Region,
		}},
		{"an application credential", Config{CloudsFile: own}, nil},
	} {
		t.Run(way.name, func(t *testing.T) {
			for name, value := range way.env {
				t.Setenv(name, value)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			c, err := Open(way.cfg, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, name, err := c.Project(ctx); name != "demo" || err != nil {
				t.Errorf("Project() = %q, %v", name, err)
			}
			if _, err := c.FindFlavor(ctx, lab.Flavor); err != nil {
				t.Error(err)
			}
			if _, err := c.FindImage(ctx, ImageQuery{Name: lab.Image}); err != nil {
				t.Error(err)
			}
			if n, err := c.FindExternalNetwork(ctx, ""); err != nil || n.Name != lab.External {
				t.Errorf("FindExternalNetwork() = %q, %v", n.Name, err)
			}
			if _, err := c.FindSecurityGroup(ctx, "default"); err != nil {
				t.Error(err)
			}
			nova, err := c.Compute(ctx)
			if err != nil {
				t.Fatal(err)
			}
			err = Error(servers.Get(ctx, nova, credential.ID).Err, "get")
			if !scaling.IsNotFound(err) || !strings.Contains(err.Error(), "could not be found") {
				t.Errorf("a server that there is not: %v (%s)", err, scaling.ClassOf(err))
			}
			if _, err := c.BlockStorage(ctx); err == nil || !strings.Contains(err.Error(), `service "block-storage" does not exist`) {
				t.Errorf("a service that there is not: %v", err)
			}
		})
	}
}
