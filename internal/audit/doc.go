// Package audit writes down who wanted to change what, before it is done, and what
// came of it: one JSON object a line, in a file that only ever grows.
//
// What is asked is flushed to the disk before it is done, and is not done where
// that failed. So every change that a person caused has an entry, also through a
// power cut; an entry without an outcome is a request whose end nobody saw.
//
// An entry holds names, numbers and what the caller said of them. No field is ever
// filled from a header that authenticates, a file or a configuration.
package audit
