package store

// Migrations shows the tests how many schemas there were.
func Migrations() []migration { return migrations() }
