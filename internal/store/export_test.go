package store

import "time"

// Migrations shows the tests how many schemas there were.
func Migrations() []migration { return migrations() }

// Impatient waits for other programs' transactions only so long.
func (o Options) Impatient(wait time.Duration) Options {
	o.busy = wait
	return o
}
