// Package suggest looks back at a group's CPU and says what its thresholds would
// have done, and which would be right. It is pure: what was recorded goes in, a
// report comes out. What would have been done is decided by scaling.Decide itself,
// with the group's own times, bounds and budgets; what is assumed beside it is in
// Model, and the report says it.
package suggest
