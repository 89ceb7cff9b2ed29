package lint

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// unread reports the parts that the reader of a file would pass over.
func unread(l *linter) {
	for _, u := range l.unknown {
		m := messages()[u.message]
		near, least := "", 4
		for name := range m.fields {
			if d := levenshtein.ComputeDistance(snake(u.key), snake(name)); d < least || d == least && name < near {
				near, least = name, d
			}
		}
		hint := ""
		if near != "" {
			hint = " Did you mean " + m.spelled(near, u.key) + "?"
		}
		l.report("unknown-field", u.value, "%s has no field %s.%s", display(u.own), quote(u.key), hint)
	}
	for _, n := range l.twice {
		l.report("duplicate-key", n, "This key stands twice in one mapping, and each reader takes the one that it likes.")
	}
}

// spelled returns the name of a field in the spelling of the file.
func (m *message) spelled(name, as string) string {
	if m.exact || strings.IndexFunc(as, isUpper) < 0 && strings.Contains(as, "_") {
		return name
	}
	var b strings.Builder
	for i, part := range strings.Split(name, "_") {
		if i > 0 && part != "" {
			part = strings.ToUpper(part[:1]) + part[1:]
		}
		b.WriteString(part)
	}
	if strings.IndexFunc(as, isUpper) < 0 {
		return name
	}
	return b.String()
}

// display returns the name of a message for people.
func display(message string) string {
	if i := strings.LastIndexByte(message, '.'); i >= 0 && !strings.Contains(message, "/") {
		return message[i+1:]
	}
	return message[strings.IndexByte(message, '/')+1:]
}
