package main

import (
	"fmt"
	"strconv"
	"time"
)

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond))
}

// printTable prints one line per contestant. CPU is that of the process that
// asks, libvirtd's stands beside it.
func printTable(list []*contestant) {
	fmt.Print("| | wall ms | CPU ms | libvirtd CPU ms | allocations | domains or samples |\n|---|---|---|---|---|---|\n")
	for _, c := range list {
		daemon := "-"
		if len(c.daemon) > 0 {
			daemon = milliseconds(median(c.daemon))
		}
		count := "-"
		if c.count > 0 {
			count = strconv.Itoa(c.count)
		}
		allocations := median(c.allocations)
		fmt.Printf("| %s | %s | %s | %s | %.0f | %s |\n", c.name, milliseconds(median(c.wall)), milliseconds(median(c.cpu)), daemon, allocations, count)
	}
	fmt.Println()
}

// ratio compares the wall times of two contestants with what is aimed at.
type ratio struct {
	name     string
	of, to   *contestant
	aim      string
	achieved func(float64) bool
}

func atMost(limit float64) func(float64) bool  { return func(r float64) bool { return r <= limit } }
func atLeast(limit float64) func(float64) bool { return func(r float64) bool { return r >= limit } }

func mark(ok bool) string {
	if ok {
		return "(reached)"
	}
	return "(missed)"
}

func printRatios(list []ratio) {
	fmt.Print("| ratio | measured | aim |\n|---|---|---|\n")
	for _, r := range list {
		value := float64(median(r.of.wall)) / float64(median(r.to.wall))
		aim := r.aim
		if r.achieved != nil {
			aim += " " + mark(r.achieved(value))
		}
		fmt.Printf("| %s | %.2f | %s |\n", r.name, value, aim)
	}
	fmt.Println()
}

// sum is a contestant that does what two do, one after the other.
func sum(a, b *contestant) *contestant {
	c := &contestant{name: a.name + " and " + b.name}
	for i := range a.wall {
		c.wall = append(c.wall, a.wall[i]+b.wall[i])
	}
	return c
}
