package config

import "rescind/authz/watch"

// readAlerts reads the thresholds of unusual use of tokens. Zero switches a
// threshold off.
func readAlerts(v value, s *watch.Settings) {
	v.object(keys{
		"enabled":            into(&s.Enabled, flag),
		"window":             into(&s.Window, duration(watch.MinWindow, watch.MaxWindow)),
		"tokens":             into(&s.Tokens, count(watch.MinTokens, watch.MaxTokens)),
		"networks_per_token": into(&s.NetworksPerToken, count(0, 60)),
		"at_once":            into(&s.AtOnce, duration(0, watch.MinWindow)),
		"failures":           into(&s.Failures, count(0, 1e9)),
		"failures_within":    into(&s.FailuresWithin, duration(positive, watch.MaxWindow)),
		"subject_rate":       into(&s.SubjectRate, count(0, 1e6)),
		"subject_at_least":   into(&s.SubjectAtLeast, count(0, 1e9)),
		"lifetime_factor":    into(&s.LifetimeFactor, count(0, 1e6)),
		"lifetime_at_least":  into(&s.LifetimeAtLeast, duration(0, 0)),
	})
}
