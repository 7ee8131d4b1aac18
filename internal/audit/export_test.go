package audit

import "os"

// OnSync has the two be called in place of flushing the file, and its folder.
func (l *Log) OnSync(file, folder func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncFile = func(*os.File) error { return file() }
	l.syncFolder = func(string) error { return folder() }
}

// MostWaiting bounds the refusals that wait.
const MostWaiting = mostWaiting
