// Package provision makes in a cloud what a group needs before there is one: a
// network with its subnet and router, a security group, a key pair, the first
// server, its floating IP, and a snapshot of it. What it should be is a file; what
// there is is read from the cloud; the difference is the plan.
//
// The plan is a pure function of the file and of what was read (planner). It is
// carried out one step at a time, and after each step what the step touched is read
// again and the plan is made anew: so the second run after a kill is not another
// code path but the same one. A step is one write that carries our mark where the
// API lets it; nothing of ours is ever told from a stranger's by its name alone.
//
// What is there already under the file's names is adopted: used, completed where
// that does no harm, and never removed. Nothing is written before everything was
// read and nothing is wrong.
package provision
