//go:build !faultpoints

package main

import (
	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/scaling"
)

// faultyStore and faultyGroups put fault points around the store and the drivers,
// in a binary that was built for the tests that kill it. This is not one.
func faultyStore(s scaling.Store) scaling.Store { return s }

func faultyGroups(_ *config.Runtime, groups []engine.GroupConfig) []engine.GroupConfig { return groups }
