package scaling

// Ending is an activity that has ended, with its place among all that have.
type Ending struct {
	// Position counts the activities of all groups in the order in which their ends
	// were committed, whatever the clocks said. It only rises, and stays with the
	// store through restarts and backups.
	Position int64
	Activity Activity
	// Err is why the activity cannot be read; then no more than its ID is known.
	Err error
}
