package envoy

import "unicode/utf8"

// A route names its policy in a context extension, or in its metadata as {rescind:
// {policy: NAME}}, which ext_authz sends with route_metadata_context_namespaces:
// [rescind]. A module in Envoy reads the metadata too. If a route has both, they must
// agree, because a route that names two policies has an owner who believes in the
// stricter one.

// metadataNamespace is the namespace of the metadata.
const metadataNamespace = "rescind"

// routePolicy is the member policy of a route's metadata.
type routePolicy struct {
	there  bool
	isText bool
	text   string
}

// onePolicy takes over the policy of the route's metadata. It reports false if that is
// no text, or another policy than that of the context extensions.
func (in *reading) onePolicy() bool {
	r := &in.request
	switch {
	case !in.route.there:
		return true
	case !in.route.isText || r.Policy != nil && *r.Policy != in.route.text:
		return false
	}
	r.Policy, r.FromRoute = &in.route.text, true
	return true
}

// routeMetadata reads an envoy.config.core.v3.Metadata.
func (in *reading) routeMetadata(message string) bool {
	return fields(message, func(number uint64, value string) bool {
		if number != 1 {
			return true
		}
		var key string
		var policy routePolicy
		ok := fields(value, func(number uint64, value string) bool {
			switch number {
			case 1:
				key = value
			case 2:
				return policy.read(value)
			}
			return true
		})
		if key == metadataNamespace {
			in.route = policy
		}
		return ok && utf8.ValidString(policy.text)
	})
}

// read reads a google.protobuf.Struct.
func (p *routePolicy) read(message string) bool {
	return fields(message, func(number uint64, value string) bool {
		if number != 1 {
			return true
		}
		var key string
		member := routePolicy{there: true}
		ok := fields(value, func(number uint64, value string) bool {
			switch number {
			case 1:
				key = value
			case 2:
				return member.readValue(value)
			}
			return true
		})
		if key == policyExtension {
			*p = member
		}
		return ok
	})
}

// readValue reads a google.protobuf.Value. It has one member: another one replaces the
// one before.
func (p *routePolicy) readValue(message string) bool {
	return fields(message, func(number uint64, value string) bool {
		switch number {
		case 3:
			p.isText, p.text = true, value
		case 5, 6:
			p.isText, p.text = false, ""
		}
		return true
	})
}
