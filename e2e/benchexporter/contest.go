package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// contestant does one thing that is measured.
type contestant struct {
	name string
	// act does it once and returns how many samples or domains came out.
	act func(ctx context.Context) (int, error)
	// pid is the process that does the work; 0 is this one.
	pid int
	// mallocs reads how many allocations that process has made so far.
	mallocs func(ctx context.Context) (float64, error)

	wall, cpu, daemon []time.Duration
	allocations       []float64
	count             int
}

// contest lets all contestants take turns. daemon is the process of libvirtd,
// 0 for none.
func contest(ctx context.Context, rounds, daemon int, all []*contestant) error {
	for _, c := range all {
		// What is read once only is read before.
		if _, err := c.act(ctx); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for round := range rounds {
		for i := range all {
			// Rotated, and every other time backwards, so that nobody always
			// follows the same other.
			if round%2 == 1 {
				i = len(all) - 1 - i
			}
			c := all[(i+round)%len(all)]
			if err := c.turn(ctx, daemon); err != nil {
				return fmt.Errorf("%s, round %d: %w", c.name, round+1, err)
			}
		}
	}
	return nil
}

func (c *contestant) turn(ctx context.Context, daemon int) error {
	if c.pid == 0 {
		runtime.GC()
	}
	others, err := c.othersMallocs(ctx)
	if err != nil {
		return err
	}
	own, served, err := cpuTimes(c.pid, daemon)
	if err != nil {
		return err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	mallocs, start := m.Mallocs, time.Now()
	c.count, err = c.act(ctx)
	wall := time.Since(start)
	if err != nil {
		return err
	}
	runtime.ReadMemStats(&m)
	ownAfter, servedAfter, err := cpuTimes(c.pid, daemon)
	if err != nil {
		return err
	}
	othersAfter, err := c.othersMallocs(ctx)
	if err != nil {
		return err
	}
	allocations := float64(m.Mallocs - mallocs)
	if c.pid != 0 {
		// Reading the other process's count takes a scrape, and that one counts.
		allocations = (othersAfter - others) / 2
	}
	c.wall, c.cpu = append(c.wall, wall), append(c.cpu, ownAfter-own)
	c.allocations = append(c.allocations, allocations)
	if daemon != 0 {
		c.daemon = append(c.daemon, servedAfter-served)
	}
	return nil
}

// othersMallocs is how many allocations another process has made; 0 for this one.
func (c *contestant) othersMallocs(ctx context.Context) (float64, error) {
	if c.pid == 0 {
		return 0, nil
	}
	return c.mallocs(ctx)
}

// cpuTimes is cpuTime of two processes; daemon may be 0 for none.
func cpuTimes(pid, daemon int) (own, served time.Duration, err error) {
	if daemon != 0 {
		if served, err = cpuTime(daemon); err != nil {
			return 0, 0, err
		}
	}
	own, err = cpuTime(pid)
	return own, served, err
}

// cpuTime is the CPU time that a process has used: the nanoseconds that the
// scheduler keeps per thread, because the sum per process is kept in ticks of
// 10 ms. What threads that ended had used is missing, which libvirtd's and Go's
// do not do from one scrape to the next.
func cpuTime(pid int) (time.Duration, error) {
	if pid == 0 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			return 0, fmt.Errorf("read own CPU time: %w", err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
	}
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("read CPU time of process %d: %w", pid, os.ErrNotExist)
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // this thread has just ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// scrape is a contestant's act: one scrape over HTTP, read to the end.
func scrape(client *http.Client, url, encoding string) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		body, err := get(ctx, client, url, encoding)
		if err != nil || encoding != "identity" {
			return 0, err
		}
		return samples(body), nil
	}
}

// samples counts the samples of libvirt's families.
func samples(text string) int {
	return strings.Count("\n"+text, "\nlibvirt_")
}

func get(ctx context.Context, client *http.Client, url, encoding string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", fmt.Errorf("ask for %s: %w", url, err)
	}
	r.Header.Set("Accept-Encoding", encoding)
	resp, err := client.Do(r)
	if err != nil {
		return "", fmt.Errorf("scrape: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("read scrape: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("scrape answered %s", resp.Status)
	}
	return string(body), nil
}

// median is the middle one; 0 of none.
func median[T time.Duration | float64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
