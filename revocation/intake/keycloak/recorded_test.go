package keycloak

import (
	"encoding/json"
	"strings"
	"testing"
)

// rawEvent is a recorded event.
type rawEvent = json.RawMessage

func idOf(t testing.TB, e rawEvent) string {
	t.Helper()
	var parsed struct{ ID string }
	if err := json.Unmarshal(e, &parsed); err != nil {
		t.Fatal(err)
	}
	return parsed.ID
}

// after puts the realm into the state after a recorded event.
func (k *realmServer) after(e rawEvent) {
	k.Lock()
	s := parseSaved(e)
	if s.resource != "" {
		k.admin = append(k.admin, s)
	} else {
		k.user = append(k.user, s)
	}
	k.clients["5264cdfd-b248-4501-9dff-8efa95f69161"] = map[string]any{"clientId": "demo-client", "enabled": true, "notBefore": 1795711641}
	k.users["ec134189-aea5-4e49-9ff4-a1ece5610241"] = map[string]any{"username": "bob", "enabled": false}
	text := string(e)
	if strings.Contains(text, "push-revocation") || strings.Contains(text, "c164daad") {
		k.realm["notBefore"] = 1795711647
	}
	k.Unlock()
	if s.resource == "COMPONENT" && s.kind == "UPDATE" {
		k.changeKey("vqNiYMWM4YQj9wLvxWAUzbJfx5odWeLDrMYnNr4LK1w", "DISABLED")
	}
	if s.resource == "COMPONENT" && s.kind == "DELETE" {
		k.changeKey("vqNiYMWM4YQj9wLvxWAUzbJfx5odWeLDrMYnNr4LK1w", "")
	}
}
