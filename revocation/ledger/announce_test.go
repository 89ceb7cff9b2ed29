package ledger

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode"
)

// Requests choose texts of an entry. No line has a character that could be used
// against a reader, and no line is long.
func TestLinesArePrintable(t *testing.T) {
	evil := "ev\u202eil\n\x1b[31m\u2028\xff" + strings.Repeat("x", 5000)
	for _, outcome := range []string{Accepted, Existing, Refused, Denied, Failed, DryRun} {
		var out bytes.Buffer
		a := newAnnouncer(slog.New(slog.NewJSONHandler(&out, nil)))
		a.announce(&AuditEntry{By: evil, From: evil, Action: evil, Outcome: outcome, Issuers: []string{evil, evil}, ID: evil, Write: evil, Detail: evil, Reason: evil})
		line := strings.TrimSuffix(out.String(), "\n")
		if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) && r != unicode.ReplacementChar }) || len(line) > 8*maxText || strings.Contains(line, `\n`) || strings.Contains(line, `\u`) {
			t.Errorf("%s: line %s, want at most %d bytes of printable characters", outcome, line, 8*maxText)
		}
		if want := fmt.Sprintf("%q:%q", "by", "ev\uFFFDil\uFFFD"); !strings.Contains(line, want[:len(want)-1]) {
			t.Errorf("%s: line %s, want %s in it", outcome, line, want)
		}
	}
}
