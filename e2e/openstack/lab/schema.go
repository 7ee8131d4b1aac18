package lab

import (
	"context"
	"fmt"
	"time"
)

// schema makes or upgrades a service's tables, once per state folder.
func (u *bringUp) schema(ctx context.Context, name string, migrate func(ctx context.Context, log string) error) error {
	done := u.path("schema-" + name)
	if exists(done) {
		return nil
	}
	began := time.Now()
	if err := migrate(ctx, "schema-"+name); err != nil {
		return fmt.Errorf("make the tables of %s: %w", name, err)
	}
	u.say("tables of %s, %.0f s", name, time.Since(began).Seconds())
	return replaceFile(done, nil, 0o644)
}

// each runs a program several times, with other arguments.
func (u *bringUp) each(ctx context.Context, log string, program []string, runs ...[]string) error {
	for _, args := range runs {
		if err := u.command(ctx, log, append(append([]string{}, program...), args...)...); err != nil {
			return err
		}
	}
	return nil
}

func (u *bringUp) keystoneSchema(ctx context.Context, log string) error {
	owner := []string{"--keystone-user", "root", "--keystone-group", "root"}
	return u.each(
		ctx, log, python("keystone-manage", "keystone.cmd.manage", "--config-file", u.path("etc", "keystone", "keystone.conf")),
		[]string{"db_sync"},
		append([]string{"fernet_setup"}, owner...),
		append([]string{"credential_setup"}, owner...),
		[]string{
			"bootstrap", "--bootstrap-password", Password, "--bootstrap-region-id", Region,
			"--bootstrap-admin-url", AuthURL, "--bootstrap-internal-url", AuthURL, "--bootstrap-public-url", AuthURL,
		},
	)
}

func (u *bringUp) placementSchema(ctx context.Context, log string) error {
	return u.command(ctx, log, python("placement-manage", "placement.cmd.manage", "--config-dir", u.path("etc", "placement"), "db", "sync")...)
}

func (u *bringUp) neutronSchema(ctx context.Context, log string) error {
	return u.command(ctx, log, python("neutron-db-manage", "neutron.db.migration.cli",
		"--config-file", u.path("etc", "neutron", "neutron.conf"), "--config-file", u.path("etc", "neutron", "ml2.ini"), "upgrade", "heads")...)
}

func (u *bringUp) novaManage(args ...string) []string {
	return append(python("nova-manage", "nova.cmd.manage", "--config-file", u.path("etc", "nova", "nova.conf")), args...)
}

func (u *bringUp) novaSchema(ctx context.Context, log string) error {
	if err := u.each(ctx, log, u.novaManage(),
		[]string{"api_db", "sync"},
		[]string{"cell_v2", "map_cell0", "--database_connection", settings{socket: u.socket()}.DB("nova_cell0")},
		[]string{"db", "sync"},
	); err != nil {
		return err
	}
	cells, err := u.SQL(ctx, "select count(*) from nova_api.cell_mappings where name = 'cell1'")
	if err != nil || cells != "0" {
		return err
	}
	return u.command(ctx, log, u.novaManage("cell_v2", "create_cell", "--name", "cell1")...)
}

func (u *bringUp) glanceSchema(ctx context.Context, log string) error {
	return u.command(ctx, log, python("glance-manage", "glance.cmd.manage", "--config-file", u.path("etc", "glance", "glance-api.conf"), "db_sync")...)
}

func (u *bringUp) octaviaSchema(ctx context.Context, log string) error {
	return u.command(ctx, log, python("octavia-db-manage", "octavia.db.migration.cli", "--config-file", u.path("etc", "octavia", "octavia.conf"), "upgrade", "head")...)
}
