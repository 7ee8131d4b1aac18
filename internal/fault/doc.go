// Package fault holds the named points at which a test ends the process, to show
// that whatever was going on is finished or undone by the next start.
//
// Only a binary built with the tag faultpoints has them; in every other one they
// compile to nothing. Such a binary is for tests alone. Three environment variables
// steer it:
//
//   - SCALEHOOK_FAULT=NAME:N ends the process with SIGKILL at the N-th passing of
//     the point NAME.
//   - SCALEHOOK_FAULT_LOG=FILE appends a line for every passing: its name, its
//     number, and the Unix time in milliseconds. A test records an undisturbed run
//     that way, and then repeats it once for every line, killed there.
//   - SCALEHOOK_FAULT_HANG=NAME keeps everybody who passes the point NAME there for
//     ever.
//
// Polling passes the same points over and over while nothing changes, and how
// often depends on the clock. Passings of a point between two Steps therefore
// count as one.
package fault
