package webhook

import (
	"net/http"
	"strings"
)

// scimEvents returns the changes of a user that a SCIM client makes (RFC 7644,
// sections 3.5.2 and 3.6), one event for each attribute:
//
//	{"id": "USER", "op": "replace", "path": "active", "value": false}
//
// The name of an operation and of an attribute is in lower case. An operation on
// several attributes is several events. A deleted user has the op "delete".
func scimEvents(user, method string, body any) (events []any, err error) {
	if method == http.MethodDelete {
		return []any{map[string]any{"id": user, "op": "delete"}}, nil
	}
	object, _ := body.(map[string]any)
	operations, ok := object["Operations"].([]any)
	if !ok {
		return nil, fault{http.StatusBadRequest, "the body has no array Operations (RFC 7644, section 3.5.2)"}
	}
	for _, o := range operations {
		operation, _ := o.(map[string]any)
		op, _ := operation["op"].(string)
		path, _ := operation["path"].(string)
		event := func(path string, value any) {
			events = append(events, map[string]any{"id": user, "op": strings.ToLower(op), "path": strings.ToLower(path), "value": value})
		}
		attributes, several := operation["value"].(map[string]any)
		if path != "" || !several {
			event(path, operation["value"])
			continue
		}
		for name, value := range attributes {
			event(name, value)
		}
	}
	return events, nil
}
