package store_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// filled makes a store with groups of ten instances each, whose conditions stand.
func filled(b *testing.B, groups int) (*store.Store, []string) {
	b.Helper()
	s := open(b, filepath.Join(b.TempDir(), "s.db"))
	names := make([]string, groups)
	var wait sync.WaitGroup
	var next atomic.Int64
	for range 64 {
		wait.Go(func() {
			for g := int(next.Add(1)) - 1; g < groups; g = int(next.Add(1)) - 1 {
				names[g] = "group-" + strconv.Itoa(g)
				if err := s.Change(b.Context(), names[g], func(state *scaling.State) error {
					*state = ten(names[g])
					return nil
				}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wait.Wait()
	return s, names
}

// ten is a group as it is most of the time.
func ten(group string) scaling.State {
	now := time.Now()
	state := scaling.State{
		Group: group, Provider: "hv1", Balancer: "haproxy", NextNumber: 11, Desired: 10,
		Consumed:  map[scaling.Signal]time.Time{scaling.High: now},
		Creations: []time.Time{now.Add(-time.Minute), now},
		Leases: []scaling.Lease{{
			Signal: scaling.High, Fingerprint: "00112233445566", AlertName: "ScalehookGroupCPUHigh",
			StartsAt: now, FirstSeen: now, LastSeen: now, Expires: now.Add(time.Hour), Receiver: "scalehook",
		}},
	}
	for i := range 10 {
		id := fmt.Sprintf("%s-%08d-0000-4000-8000-000000000000", group, i)
		state.Instances = append(state.Instances, scaling.Instance{
			ID: id, UUID: id, Group: group, Name: group + "-" + strconv.Itoa(i+1), Number: i + 1, State: scaling.StateInService,
			Since: now, CreatedAt: now, InServiceAt: now, Address: netip.AddrFrom4([4]byte{10, 0, byte(i), 1}), Activity: "a-0123456789",
		})
	}
	state.Primary = state.Instances[0].ID
	return state
}

// renew is what a repeated notification changes.
func renew(state *scaling.State) error {
	now := time.Now()
	state.Leases[0].LastSeen, state.Leases[0].Expires, state.LastNotification = now, now.Add(time.Hour), now
	return nil
}

// report adds what callers waited.
func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.5), "ms-p50")
	b.ReportMetric(at(0.99), "ms-p99")
	b.ReportMetric(at(1), "ms-max")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "changes/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkChange is how many durable changes there are in a second, from so many
// callers at once, each of which waits for its own.
func BenchmarkChange(b *testing.B) {
	for _, c := range []struct{ callers, groups int }{{1, 1}, {64, 1}, {64, 64}, {64, 10000}, {1000, 10000}} {
		b.Run(fmt.Sprintf("callers=%d/groups=%d", c.callers, c.groups), func(b *testing.B) {
			s, names := filled(b, c.groups)
			took := make([]time.Duration, b.N)
			var next atomic.Int64
			var wait sync.WaitGroup
			b.ResetTimer()
			for range c.callers {
				wait.Go(func() {
					for i := int(next.Add(1)) - 1; i < b.N; i = int(next.Add(1)) - 1 {
						began := time.Now()
						if err := s.Change(b.Context(), names[i%len(names)], renew); err != nil {
							b.Error(err)
							return
						}
						took[i] = time.Since(began)
					}
				})
			}
			wait.Wait()
			b.StopTimer()
			report(b, took)
		})
	}
}

// BenchmarkChangeAtAThousandASecond is what callers wait for a durable change when
// a thousand come in a second, whether or not earlier ones are done.
func BenchmarkChangeAtAThousandASecond(b *testing.B) {
	for _, groups := range []int{1, 100, 10000} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			s, names := filled(b, groups)
			took := make([]time.Duration, b.N)
			var wait sync.WaitGroup
			before := heap()
			b.ResetTimer()
			start := time.Now()
			for i := range b.N {
				due := start.Add(time.Duration(i) * time.Millisecond)
				time.Sleep(time.Until(due))
				wait.Go(func() {
					if err := s.Change(b.Context(), names[i%len(names)], renew); err != nil {
						b.Error(err)
					}
					took[i] = time.Since(due)
				})
			}
			wait.Wait()
			b.StopTimer()
			report(b, took)
			b.ReportMetric(float64(heap()-before)/1e6, "MB-grown")
		})
	}
}

// BenchmarkFlush is what the disk takes for one flush of what a change writes, as
// often as changes come above: no durable change can be faster.
func BenchmarkFlush(b *testing.B) {
	file, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	const frames = 3 * (4096 + 24)
	if _, err := file.Write(make([]byte, 1000*frames)); err != nil {
		b.Fatal(err)
	}
	took := make([]time.Duration, b.N)
	b.ResetTimer()
	start := time.Now()
	for i := range b.N {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Millisecond)))
		began := time.Now()
		if _, err := file.WriteAt(make([]byte, frames), int64(i%1000*frames)); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(file.Fd())); err != nil {
			b.Fatal(err)
		}
		took[i] = time.Since(began)
	}
	b.StopTimer()
	report(b, took)
}

// BenchmarkUnchanged is the cost of a change that changes nothing, without what
// callers share.
func BenchmarkUnchanged(b *testing.B) {
	s, names := filled(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Change(b.Context(), names[0], func(*scaling.State) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkView(b *testing.B) {
	s, names := filled(b, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.View(b.Context(), names[0]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is the start of a server: the check of the file and all states.
func BenchmarkOpen(b *testing.B) {
	for _, groups := range []int{100, 10000} {
		b.Run(fmt.Sprintf("groups=%d", groups), func(b *testing.B) {
			s, _ := filled(b, groups)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			path := s.Path()
			info, err := os.Stat(path)
			if err != nil {
				b.Fatal(err)
			}
			before := heap()
			for b.Loop() {
				if s, err = store.Open(b.Context(), path, store.Options{}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.ReportMetric(float64(heap()-before)/1e6, "MB-heap")
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(info.Size())/1e6, "MB-file")
		})
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
