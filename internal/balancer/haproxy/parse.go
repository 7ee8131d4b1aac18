package haproxy

import (
	"encoding/csv"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Bits of srv_admin_state, of all versions since 1.8.
const (
	adminMaint = 0x01 | 0x02 | 0x04 | 0x20 | 0x40 // forced, inherited, from the file, no address, no name
	adminDrain = 0x08 | 0x10                      // forced, inherited
)

// checkEnabled is the bit of srv_check_state that says that checks run.
const checkEnabled = 0x04

// info is what `show info` says of the process that answered.
type info struct {
	pid          int
	uptime       time.Duration
	major, minor int
}

func (i info) atLeast(major, minor int) bool {
	return i.major > major || i.major == major && i.minor >= minor
}

func parseInfo(answer string) (info, error) {
	var out info
	fields := map[string]string{}
	for line := range strings.Lines(answer) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			fields[key] = value
		}
	}
	var err error
	if out.pid, err = strconv.Atoi(fields["Pid"]); err != nil || out.pid <= 0 {
		return info{}, fmt.Errorf("no Pid in the answer %q", shorten(answer))
	}
	seconds, err := strconv.Atoi(fields["Uptime_sec"])
	if err != nil {
		return info{}, errors.New("no Uptime_sec in the answer")
	}
	out.uptime = time.Duration(seconds) * time.Second
	if _, err := fmt.Sscanf(fields["Version"], "%d.%d", &out.major, &out.minor); err != nil {
		return info{}, fmt.Errorf("cannot read the version %q", fields["Version"])
	}
	return out, nil
}

// server is one server of the backend in one worker.
type server struct {
	backend string // the id of its backend: a frontend may have the same name
	name    string
	addr    netip.AddrPort // invalid where it has none
	admin   int
	checked bool
	status  string // UP, DOWN, DRAIN 1/2 …
	check   string // L7OK, L4CON, INI …; empty without checks
	// sessions counts requests in flight and waiting in the server's queue.
	sessions int
}

func (s server) maint() bool    { return s.admin&adminMaint != 0 }
func (s server) draining() bool { return !s.maint() && s.admin&adminDrain != 0 }
func (s server) ready() bool    { return s.admin&(adminMaint|adminDrain) == 0 }

// passed reports whether HAProxy counts the server as up *by a check that ended*:
// a server whose first check still runs reads "UP 1/2" as well.
func (s server) passed() bool {
	if !s.checked || s.maint() || strings.HasPrefix(s.status, "DOWN") {
		return false
	}
	return s.ended()
}

func (s server) failed() bool {
	return s.checked && !s.maint() && strings.HasPrefix(s.status, "DOWN") && s.ended()
}

func (s server) ended() bool {
	switch strings.TrimPrefix(s.check, "* ") {
	case "", "INI", "UNK", "STARTED", "no check":
		return false
	}
	return true
}

// parseServers reads `show servers state BACKEND`.
func parseServers(answer string) ([]server, error) {
	lines := strings.Split(answer, "\n")
	if len(lines) < 2 || strings.TrimSpace(lines[0]) != "1" || !strings.HasPrefix(lines[1], "# ") {
		return nil, fmt.Errorf("this is no list of servers: %q", shorten(answer))
	}
	columns := strings.Fields(strings.TrimPrefix(lines[1], "# "))
	var out []server
	for _, line := range lines[2:] {
		if line == "" {
			continue
		}
		row, err := pair(columns, strings.Fields(line))
		if err != nil {
			return nil, err
		}
		s := server{backend: row["be_id"], name: row["srv_name"]}
		if s.name == "" || s.backend == "" {
			return nil, fmt.Errorf("a server without a name: %q", shorten(line))
		}
		if s.admin, err = strconv.Atoi(row["srv_admin_state"]); err != nil {
			return nil, fmt.Errorf("srv_admin_state of %s: %w", s.name, err)
		}
		state, err := strconv.Atoi(row["srv_check_state"])
		if err != nil {
			return nil, fmt.Errorf("srv_check_state of %s: %w", s.name, err)
		}
		s.checked = state&checkEnabled != 0
		addr, errAddr := netip.ParseAddr(row["srv_addr"])
		port, errPort := strconv.ParseUint(row["srv_port"], 10, 16)
		if errAddr == nil && errPort == nil {
			s.addr = netip.AddrPortFrom(addr.Unmap(), uint16(port))
		}
		out = append(out, s)
	}
	return out, nil
}

func pair(columns, values []string) (map[string]string, error) {
	if len(values) < len(columns) {
		return nil, fmt.Errorf("a row with %d of %d columns", len(values), len(columns))
	}
	row := make(map[string]string, len(columns))
	for i, column := range columns {
		row[column] = values[i]
	}
	return row, nil
}

// stat is one row of `show stat`.
type stat struct {
	proxy, name, status, check string
	sessions, queued           int
}

func parseStats(answer string) ([]stat, error) {
	if !strings.HasPrefix(answer, "# pxname,") {
		return nil, fmt.Errorf("these are no statistics: %q", shorten(answer))
	}
	reader := csv.NewReader(strings.NewReader(strings.TrimPrefix(answer, "# ")))
	reader.LazyQuotes = true
	rows, err := reader.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read the statistics: %w", err)
	}
	var out []stat
	for _, values := range rows[1:] {
		row, err := pair(rows[0], values)
		if err != nil {
			return nil, err
		}
		s := stat{proxy: row["pxname"], name: row["svname"], status: row["status"], check: row["check_status"]}
		if s.sessions, err = count(row["scur"]); err != nil {
			return nil, fmt.Errorf("scur of %s/%s: %w", s.proxy, s.name, err)
		}
		if s.queued, err = count(row["qcur"]); err != nil {
			return nil, fmt.Errorf("qcur of %s/%s: %w", s.proxy, s.name, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func count(field string) (int, error) {
	if field == "" {
		return 0, nil
	}
	return strconv.Atoi(field)
}

// processes is what `show proc` of a master lists.
type processes struct{ workers, older []int }

func parseProcesses(answer string) (processes, error) {
	var out processes
	if !strings.HasPrefix(answer, "#<PID>") {
		return out, fmt.Errorf("this is no list of processes: %q", shorten(answer))
	}
	section := ""
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "#"); ok {
			section = strings.TrimSpace(title)
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[1] != "worker" {
			continue
		}
		pid, err := strconv.Atoi(fields[0])
		if err != nil {
			return processes{}, fmt.Errorf("read the process %q: %w", line, err)
		}
		switch section {
		case "workers":
			out.workers = append(out.workers, pid)
		case "old workers":
			out.older = append(out.older, pid)
		}
	}
	return out, nil
}
