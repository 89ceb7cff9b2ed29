package issuers

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// pushedTo begins the intakes with a listener for pushed events.
func pushedTo(addr string) string {
	return fmt.Sprintf("intake_http: {listen: %q, plaintext: true}\nintake:\n", addr)
}

// logoutIntake is the intake named logout, for the back-channel logouts of an
// issuer.
func logoutIntake(issuer string) string {
	return fmt.Sprintf(`  - name: logout
    kind: logout
    issuers: [%q]
    may: [session, subject]
    discovery: true
    clients: [%s]
`, issuer, webClient)
}

// intakes are those for Keycloak: its back-channel logouts, and its events.
func (k *keycloak) intakes(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "poller.secret")
	must(t, os.WriteFile(file, []byte(secret), 0o600))
	return logoutIntake(k.issuer()) + fmt.Sprintf(`  - name: events
    kind: keycloak
    issuers: [%q]
    may: [token, session, subject, client, kid, all]
    client_id: %s
    client_secret_file: %q
`, k.issuer(), pollerClient, file)
}
