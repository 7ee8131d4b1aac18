// Package scaling is the domain of scalehook and can be read alone: the words
// (group, instance, signal, condition, evidence, verdict, activity), the pure
// decision, and the contracts that the parts around it fulfil. It imports the
// standard library only and does nothing by itself: no goroutine, no clock, no
// network.
//
// Start with Group (what an operator configures), State (what is durable),
// Decide (the pure function from both to a Verdict) and then the contracts
// Provider, Balancer, Meter, Confirmer and Store. Package scalingtest holds the
// conformance suites that every implementation passes against the real thing.
package scaling
