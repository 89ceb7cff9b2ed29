package keycloak

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"rescind/revocation/intake"
)

// key is a signing key of the realm.
type key struct {
	Good    bool  `json:"good"`              // it is there and not disabled
	Pending bool  `json:"pending,omitempty"` // the door may not have taken the change
	At      int64 `json:"at,omitempty"`      // when it last changed, in milliseconds
}

// readKeys returns the signing keys of the realm by kid, and whether each is good.
// Keys of HMAC sign no token that anybody else can verify.
func (p *Poller) readKeys(ctx context.Context) (map[string]bool, error) {
	var answer struct {
		Keys []struct {
			KeyID  string `json:"kid"`
			Status string `json:"status"`
			Type   string `json:"type"`
			Use    string `json:"use"`
		} `json:"keys"`
	}
	if err := p.ask(ctx, "/keys", nil, roleRealm, p.limit, &answer); err != nil {
		return nil, err
	}
	if len(answer.Keys) == 0 {
		return nil, errors.New("keycloak lists no key of the realm")
	}
	keys := map[string]bool{}
	for _, k := range answer.Keys {
		if k.KeyID != "" && k.Use == "SIG" && k.Type != "OCT" {
			keys[k.KeyID] = keys[k.KeyID] || k.Status != "DISABLED"
		}
	}
	return keys, nil
}

// firstKeys is the list that later lists are compared with.
func (p *Poller) firstKeys(ctx context.Context) error {
	now, err := p.readKeys(ctx)
	if err != nil {
		return err
	}
	p.at.Keys, p.at.changed = map[string]*key{}, true
	for kid, good := range now {
		p.at.Keys[kid] = &key{Good: good}
	}
	return nil
}

// compareKeys denies the tokens of keys that have vanished or are disabled, and
// undoes that for keys that are good again. A change is noted as pending before
// the door takes it. So a poller that ends in between carries out the state of the
// key that it then finds.
func (p *Poller) compareKeys(ctx context.Context) error {
	now, err := p.readKeys(ctx)
	if err != nil {
		return err
	}
	pending := p.pendingKeys(now)
	if len(pending) == 0 {
		return nil
	}
	if err := p.save(ctx); err != nil {
		return err
	}
	for _, kid := range pending {
		k := p.at.Keys[kid]
		if _, err := p.door.Take(ctx, p.keyEvent(kid, k)); err != nil {
			return err
		}
		k.Pending, p.at.changed = false, true
	}
	return p.save(ctx)
}

// pendingKeys notes the changes, and returns the keys whose changes the door must
// take.
func (p *Poller) pendingKeys(now map[string]bool) (pending []string) {
	for kid, good := range now {
		if _, known := p.at.Keys[kid]; !known {
			p.at.Keys[kid] = &key{Good: true}
			p.at.changed = p.at.changed || good
		}
	}
	for _, kid := range slices.Sorted(maps.Keys(p.at.Keys)) {
		k := p.at.Keys[kid]
		if k.Good != now[kid] {
			k.Good, k.Pending, k.At = now[kid], true, p.now().UnixMilli()
		}
		if k.Pending {
			pending = append(pending, kid)
		}
	}
	p.dropKeys()
	return pending
}

// dropKeys forgets the keys that vanished first, if there are too many.
func (p *Poller) dropKeys() {
	for len(p.at.Keys) > maxKeys {
		oldest := ""
		for kid, k := range p.at.Keys {
			if !k.Good && !k.Pending && (oldest == "" || k.At < p.at.Keys[oldest].At) {
				oldest = kid
			}
		}
		if oldest == "" {
			return
		}
		delete(p.at.Keys, oldest)
	}
}

func (p *Poller) keyEvent(kid string, k *key) *intake.Event {
	e := &intake.Event{
		ID: fmt.Sprintf("%s@%d", kid, k.At), Type: "key-ended", At: time.UnixMilli(k.At),
		Acts: []intake.Act{{Power: intake.KeyID, Issuer: p.Issuer, KeyID: kid}},
	}
	if k.Good {
		e.Type, e.Acts[0].Undo = "key-enabled", true
	}
	return e
}
