package cloud

import (
	"fmt"
	"os"
	"strings"
)

// readRCFile returns the variables OS_* that a file sets.
func readRCFile(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("rc_file: %w", err)
	}
	vars, err := parseRC(string(text))
	if err != nil {
		return nil, fmt.Errorf("rc_file %s: %w", path, err)
	}
	if len(vars) == 0 {
		return nil, fmt.Errorf("rc_file %s: sets no variable OS_…: it has to have lines such as export OS_USERNAME=admin", path)
	}
	return vars, nil
}

// parseRC reads lines "export OS_X=value" or "OS_X=value" without a shell, and
// passes over every other line. A value that only a shell could find out is an
// error: a wrong password would be worse.
func parseRC(text string) (map[string]string, error) {
	vars := map[string]string{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "export"); ok && strings.TrimLeft(rest, " \t") != rest {
			line = strings.TrimLeft(rest, " \t")
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || !strings.HasPrefix(name, "OS_") || strings.ContainsAny(name, " \t") {
			continue
		}
		plain, err := unquote(value)
		if err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", number, name, err)
		}
		vars[name] = plain
	}
	return vars, nil
}

// unquote reads one word as a shell does, and nothing that a shell would compute.
func unquote(s string) (string, error) {
	var out strings.Builder
	quote := rune(0)
	escaped := false
	for _, r := range s {
		switch {
		case escaped:
			// Between double quotes a backslash escapes only what means something there.
			if quote == '"' && !strings.ContainsRune("\"\\$`", r) {
				out.WriteByte('\\')
			}
			out.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped = true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote = r
		case quote != '\'' && (r == '$' || r == '`'):
			return "", fmt.Errorf("has a %q that only a shell understands: write the value itself", r)
		case quote == 0 && strings.ContainsRune(" \t;#&|", r):
			// What follows is another command or a comment.
			return out.String(), nil
		default:
			out.WriteRune(r)
		}
	}
	if quote != 0 || escaped {
		return "", fmt.Errorf("is not closed: a %q is missing", quote)
	}
	return out.String(), nil
}
