package main

import (
	"strings"

	"github.com/rivo/uniseg"

	"rescind/cmd/internal/terminal"
	"rescind/revocation/insight"
	"rescind/revocation/printable"
)

// severities says how much each detector's alerts matter. The alerts of a detector
// that is not there, of a later version, are medium.
var severities = map[insight.Detector]cell{
	insight.RevokedTokenUsed:  {"high", bad},
	insight.DistrustedKeyUsed: {"high", bad},
	insight.TwoNetworksAtOnce: {"high", bad},
	insight.KnownTokenDenied:  {"high", bad},
	insight.ManyNetworks:      {"medium", warning},
	insight.BadSignatures:     {"medium", warning},
	insight.UnknownKeys:       {"medium", warning},
	insight.WrongAlgorithms:   {"medium", warning},
	insight.SubjectRate:       {"low", plain},
	insight.TokenLifetime:     {"low", plain},
}

// indent is the width of the margin of the lines below the first line of an entry.
const indent = 10

// alertText returns an alert for people, with the command to run next.
func alertText(s *screen, a *insight.Alert) string {
	severity, ok := severities[a.Detector]
	if !ok {
		severity = cell{"medium", warning}
	}
	times := ""
	if a.Count > 1 {
		times = ", " + grouped(int(a.Count)) + " times"
	}
	var b strings.Builder
	b.WriteString(s.paint(terminal.Pad(severity.text, 8), severity.tone) + "  " + terminal.Pad(s.when(a.Last), 8) + "  " + printable.Quote(string(a.Detector)) + times + "\n")
	b.WriteString(s.wrap(printable.Quote(a.Summary), indent))
	var facts []string
	for _, f := range []struct{ name, value string }{
		{"sub", a.Subject}, {"jti", a.TokenID}, {"sid", a.Session}, {"client", a.Client}, {"kid", a.KeyID}, {"issuer", a.Issuer},
		{"policy", a.Policy}, {"revocation", a.RevocationID}, {"networks", strings.Join(a.Networks, ",")}, {"replicas", strings.Join(a.Replicas, ",")},
		{"credentials", strings.Join(a.Credentials, ",")},
	} {
		if f.value != "" {
			facts = append(facts, pair(f.name, f.value))
		}
	}
	b.WriteString(s.pairs(facts, indent))
	if a.Hearsay {
		b.WriteString(s.wrap("hearsay: none of the replicas accepts this issuer", indent))
	}
	b.WriteString(s.command("next: ", nextCommand(a), indent))
	return b.String()
}

// nextCommand returns the words of the command that an operator runs next. The
// command shows the other requests of the same holder, or the revocation that
// the alert names.
func nextCommand(a *insight.Alert) []string {
	switch {
	case a.Detector == insight.DistrustedKeyUsed && a.RevocationID != "" && printable.Valid(a.RevocationID):
		return []string{"rescind", "show", a.RevocationID}
	case a.Detector == insight.TokenLifetime:
		return []string{"rescind", "advise"}
	case a.Detector == insight.BadSignatures, a.Detector == insight.UnknownKeys, a.Detector == insight.WrongAlgorithms:
		return []string{"rescind", "alerts", "--follow", "--detector", string(a.Detector)} // a forged token names nobody
	}
	for _, of := range []struct{ flag, value string }{{"--sub", a.Subject}, {"--sid", a.Session}, {"--jti", a.TokenID}} {
		if of.value == "" || !printable.Valid(of.value) || strings.HasPrefix(of.value, "sha256:") {
			continue // activity finds no request by this value
		}
		words := []string{"rescind", "activity", of.flag, of.value}
		if a.Issuer != "" && printable.Valid(a.Issuer) {
			words = append(words, "--issuer", a.Issuer)
		}
		return words
	}
	return []string{"rescind", "alerts", "-o", "json"}
}

// command returns a line with a command to copy, of printable words. On a terminal
// that is too narrow the command goes on in further lines, each of which begins
// with a flag. A word that a shell would change is quoted.
func (s *screen) command(before string, words []string, indent int) string {
	line := strings.Repeat(" ", indent) + before
	var b strings.Builder
	for i, word := range words {
		part := shellQuote(word)
		if i > 0 && strings.HasPrefix(word, "--") {
			flag := part // with its value, if it has one
			if i+1 < len(words) {
				flag += " " + shellQuote(words[i+1])
			}
			if s.width > 0 && uniseg.StringWidth(line+" "+flag+" \\") > s.width {
				b.WriteString(line + " \\\n")
				line = strings.Repeat(" ", indent+2) + part
				continue
			}
		}
		if i > 0 {
			line += " "
		}
		line += part
	}
	return b.String() + line + "\n"
}
