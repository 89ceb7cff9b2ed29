package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzAuthz(f *testing.F) {
	fuzz(f, readAuthz, append(authzFaults, syntaxFaults...), contractAuthz)
}

func FuzzControl(f *testing.F) {
	fuzz(f, readControl, append(controlFaults, syntaxFaults...), contractControl)
}

// fuzz wants no panic, and every fault within the file and in its order.
func fuzz[T any](f *testing.F, root as[T], seeds []faulty, whole string) {
	path := filepath.Join(folderOf(f), "fuzz.yaml")
	f.Add([]byte(whole))
	for _, s := range seeds {
		f.Add([]byte(strings.ReplaceAll(s.text, "§", "")))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := decode(&document{file: path, folder: filepath.Dir(path)}, text, root)
		var list Faults
		if err == nil && x == nil || err != nil && (!errors.As(err, &list) || len(list) == 0) {
			t.Fatalf("a configuration %v with the error %v, want one of both, and Faults", x, err)
		}
		lines := strings.Split(plain(text), "\n")
		last := Fault{}
		for _, fault := range list {
			if fault.Line < 1 || fault.Line > len(lines) || fault.Column < 1 || fault.Column > utf8.RuneCountInString(lines[fault.Line-1])+1 {
				t.Errorf("%q: got the fault %v, want a place within the file", text, fault)
			}
			if fault.Line < last.Line || fault.Line == last.Line && fault.Column < last.Column {
				t.Errorf("%q: got the fault %v behind %v, want faults in the order of the file", text, fault, last)
			}
			if fault.Message == "" || strings.ContainsAny(fault.Message, "\n\r") {
				t.Errorf("%q: got the message %q, want one line of words", text, fault.Message)
			}
			last = fault
		}
	})
}
