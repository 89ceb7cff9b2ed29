package explain

import (
	"rescind/jwks/statuslist"
)

// revoked explains a token that its issuer has ended in a status list.
func (e *explanation) revoked() {
	e.add(Finding{
		Token:  e.place(),
		Wanted: "the status 0 (valid) at this index of the list",
		Note:   "the issuer has revoked or suspended the token in its own list, so rescind restore does not undo it",
	})
}

// statusRefused explains a claim status that names no place that can be checked.
func (e *explanation) statusRefused() {
	_, present, err := statuslist.ReferenceOf(e.token.Claims)
	switch {
	case err != nil:
		e.add(Finding{Token: e.member("status"), Wanted: `{"status_list":{"idx":7,"uri":"https://idp.example.com/statuslists/1"}}`, Note: printf("%v", err)})
	case present:
		e.add(Finding{Token: e.place(), Wanted: "a uri that status_lists.uris of the issuer allows, byte for byte, and an idx within the list"})
	}
}

// statusUnavailable explains a list that the replica may not rely upon.
func (e *explanation) statusUnavailable() {
	e.add(Finding{
		Token: e.place(),
		Note:  "the replica has no usable list of this uri: it was not fetched yet, it has expired, or max_lists are held; the replica's log says why a fetch failed",
	})
}

// place returns the token's place in a list, or its claim status if that names
// none.
func (e *explanation) place() string {
	ref, _, err := statuslist.ReferenceOf(e.token.Claims)
	if err != nil || ref == (statuslist.Reference{}) {
		return e.member("status")
	}
	return printf("idx %d of the list %s", ref.Index, quote(ref.URI))
}
