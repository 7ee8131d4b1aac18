package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// exitCodeMeaning is one code with what it says.
type exitCodeMeaning struct {
	code    int
	meaning string
}

func exitCodes() []exitCodeMeaning {
	return []exitCodeMeaning{
		{exitOK, "done"},
		{exitFailed, "failed: also no such group or instance, or a configuration with problems"},
		{exitUsage, "wrong usage"},
		{exitRefused, "refused by the server: bounds, protection, mode, token"},
		{exitUnavailable, "the server cannot be reached, or asks to try again"},
	}
}

// newExitCodesTopic returns what "scalehook help exit-codes" prints.
func newExitCodesTopic() *cobra.Command {
	var table strings.Builder
	for _, c := range exitCodes() {
		fmt.Fprintf(&table, "  %d  %s\n", c.code, c.meaning)
	}
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `The exit codes of every command. Scripts may rely on them.

` + table.String() + `
After code 4 it is not known whether an order was taken; send it again with the same
--idempotency-key. "check-config", "doctor" and "verify" end with 1 if they found
something wrong, "suggest" if there is too little history to suggest anything from.`,
	}
}
