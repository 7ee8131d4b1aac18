package haproxy

// AfterCommand has f called after every command on every socket of the pool and
// after every write of its fragment, so that a test can do harm in between.
func (p *Pool) AfterCommand(f func(command string)) {
	for i := range p.endpoints {
		p.endpoints[i].stats.after = f
	}
}
