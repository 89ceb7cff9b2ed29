package bearer

import (
	"crypto/sha256"
	"errors"
	"testing"
)

func TestIdentify(t *testing.T) {
	hash := func(s string) Hash { return sha256.Sum256([]byte(s)) }
	known := []Hash{hash("alpha"), hash("beta\n"), hash("gamma\r\n"), hash("")}
	tests := []struct {
		name   string
		header []string
		want   int
		err    error
	}{
		{"known", []string{"Bearer alpha"}, 0, nil},
		{"scheme in another case, two spaces", []string{"bEARER  alpha"}, 0, nil},
		{"no header", nil, -1, ErrMissing},
		{"two headers", []string{"Bearer alpha", "Bearer alpha"}, -1, ErrMissing},
		{"another scheme", []string{"Basic alpha"}, -1, ErrMissing},
		{"no token", []string{"Bearer "}, -1, ErrMissing},
		{"no space", []string{"Bearer"}, -1, ErrMissing},
		{"unknown", []string{"Bearer delta"}, -1, ErrUnknown},
		{"a space behind", []string{"Bearer alpha "}, -1, ErrUnknown},
		{"hash of the token with a newline", []string{"Bearer beta"}, -1, ErrNewline},
		{"hash of the token with CR LF", []string{"Bearer gamma"}, -1, ErrNewline},
		{"the newline itself", []string{"Bearer beta\n"}, 1, nil},
	}
	for _, tt := range tests {
		got, err := Identify(known, tt.header)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: Identify(%q) = %d, %v; want %d, %v", tt.name, tt.header, got, err, tt.want, tt.err)
		}
	}
	if i, err := Identify(nil, []string{"Bearer alpha"}); i != -1 || !errors.Is(err, ErrUnknown) {
		t.Errorf("Identify without hashes = %d, %v; want -1, %v", i, err, ErrUnknown)
	}
}
