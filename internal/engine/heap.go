package engine

import (
	"os"
	"runtime/debug"
)

// heapGrowth is by how many percent the heap may grow between two collections.
const heapGrowth = 50

// LimitHeap has Go collect the garbage of the whole process earlier than it does by
// itself: most of what an engine with thousands of groups holds stays as it is for
// hours, and with Go's 100 % the same room again would be kept for garbage. GOGC in
// the environment stands over it. It is for a program's start.
func LimitHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}
