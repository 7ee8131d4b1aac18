// Package store keeps scalehook's durable state in one SQLite file: what is
// wanted, what was begun, and what happened. It implements scaling.Store and
// knows nothing of providers or balancers.
//
// One process owns the file. A lock beside it refuses a second one; where such a
// lock does not hold (a shared file system, a deleted lock file) the epoch inside
// the database does: opening takes the next one, and a process whose epoch was
// overtaken gets scaling.ErrFenced from its next change.
//
// The database can be read with the sqlite3 shell while scalehook runs; its
// tables carry the names of the domain. Copying the file of a running scalehook
// loses what is only in its write-ahead log: use Backup.
package store
