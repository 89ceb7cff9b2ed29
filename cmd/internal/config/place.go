package config

import (
	"slices"

	"rescind/authz"
)

// places reads the places of a policy of a that may hold a token.
func places(a *Authz) as[[]authz.Place] {
	return func(v value, list *[]authz.Place) {
		var all []authz.Place
		some(func(v value, p *authz.Place) {
			if place(v, p) {
				if first := slices.IndexFunc(all, p.Overlaps); first >= 0 {
					v.fault("can hold the same token as element %d of this list, which would count as two; remove one", first)
				}
				v.doc.later = append(v.doc.later, func() { notOwned(v, *p, a.Headers) })
			}
			all = append(all, *p)
		})(v, list)
	}
}

// place reads one place, and reports whether a token can be read from it.
func place(v value, p *authz.Place) bool {
	before := len(v.doc.faults)
	v.object(keys{
		"header":             into(&p.Header, text()),
		"scheme":             into(&p.Scheme, text()),
		"cookie":             into(&p.Cookie, text()),
		"query":              into(&p.Query, text()),
		"websocket_protocol": into(&p.WebSocketProtocol, text()),
	})
	if len(v.doc.faults) > before {
		return false
	}
	if err := p.Check(); err != nil {
		v.fault("%v", err)
		return false
	}
	return true
}

// notOwned refuses a place in a header that only rescind may set. The upstream
// would take the client's word in it for a claim.
func notOwned(v value, p authz.Place, h Headers) {
	owner := authz.Headers{Prefix: h.Prefix, Claims: h.Claims, Payload: h.Payload}
	if name := p.Source(); name != "" && owner.Owns(name) {
		v.fault("%s is under headers.prefix or carries a claim, so only rescind may set it; take the token from another header", name)
	}
}
