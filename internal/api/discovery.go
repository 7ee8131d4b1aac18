package api

// TargetGroup is an entry of the list that Prometheus's HTTP service discovery reads.
// The list comes without the envelope.
type TargetGroup struct {
	// Targets is the one member's address, with the port to scrape where there is one.
	Targets []string `json:"targets"`
	// Labels are the member's, all of them __meta_scalehook_…
	Labels map[string]string `json:"labels"`
}
