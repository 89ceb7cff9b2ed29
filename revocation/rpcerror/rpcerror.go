// Package rpcerror writes the errors of gRPC and of TLS in words. gRPC nests its
// errors as text, such as
//
//	rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.5:9391: connect: connection refused"
//
// in which a person looks for the one part that helps. It knows errors by their
// text, because they travel as text: within an error of another process, and within
// the message of a log line. Its tests make the errors with the real libraries.
package rpcerror

import (
	"regexp"
	"strconv"
	"strings"
)

var (
	code   = regexp.MustCompile(`rpc error: code = [A-Za-z]+(?:\([0-9]+\))? desc = `)
	nested = regexp.MustCompile(`(?:connection error: )?desc = ("(?:[^"\\]|\\.)*")`)
)

// greetings are texts of a gRPC listener without TLS about a client with TLS, and about
// a client of another protocol.
var greetings = []struct {
	text *regexp.Regexp
	ours string
}{
	{regexp.MustCompile(`transport: http2Server\.HandleStreams received bogus greeting from client: "\\x16\\x03(?:[^"\\]|\\.)*"`), "the client speaks TLS, and this listener does not"},
	{regexp.MustCompile(`transport: http2Server\.HandleStreams received bogus greeting from client: "(?:[^"\\]|\\.)*"`), "the client does not speak gRPC"},
}

// words are texts of the libraries, and ours in their place. Where both ends speak
// different protocols, neither library says so.
var words = []struct{ text, ours string }{
	{"transport: Error while dialing: ", ""},
	{"transport: authentication handshake failed: ", "the TLS handshake failed: "},
	{"tls: first record does not look like a TLS handshake", "the other end does not speak TLS"},
	{"http: server gave HTTP response to HTTPS client", "the other end does not speak TLS"},
	{"client sent an HTTP request to an HTTPS server", "the client does not speak TLS"},
	{"error reading server preface: remote error: ", "remote error: "},
	{"error reading server preface: ", "the other end closed the connection at once, perhaps because it speaks TLS and this end does not: "},
}

// Text returns the text of an error without the codes and the nesting of gRPC, and
// with words for two ends of which one alone speaks TLS. Other text stays as it is.
func Text(s string) string {
	if !strings.Contains(s, "desc = ") && !strings.Contains(s, "HTTP") && !strings.Contains(s, "tls: ") && !strings.Contains(s, "preface") {
		return s // the common case
	}
	s = code.ReplaceAllString(s, "")
	for nested.MatchString(s) {
		s = nested.ReplaceAllStringFunc(s, func(found string) string {
			inner, err := strconv.Unquote(nested.FindStringSubmatch(found)[1])
			if err != nil {
				_, inner, _ = strings.Cut(found, `"`)
			}
			return inner
		})
	}
	for _, g := range greetings {
		s = g.text.ReplaceAllString(s, g.ours)
	}
	for _, w := range words {
		s = strings.ReplaceAll(s, w.text, w.ours)
	}
	return s
}
