package lint

import "strings"

// inProcess reports faults around the module that answers for known tokens.
func inProcess(l *linter) {
	for _, c := range l.checks {
		if c.manager == nil {
			continue
		}
		at := moduleOf(c.manager)
		if at < 0 {
			continue
		}
		module := c.manager.filters[at]
		switch by := c.node.get("filter_enabled_metadata"); {
		case at != c.index-1:
			l.report("module-order", module.entry, "The module is not directly before the check %s. A filter between them may change the request after the module has answered.", quote(c.name))
		case by == nil:
			l.report("module-unused", c.entry, "The check has no filter_enabled_metadata, so it also asks about requests that the module has answered.")
		case !known(by):
			l.report("module-condition", by, "The check is on for other requests than those that the module has left to it.")
		}
		if flag(c.node.get("deny_at_disable")) {
			l.report("module-denied", c.node.get("deny_at_disable"), "The check denies the requests for which it is off, and these are the ones that the module has answered.")
		}
	}
}

// moduleOf returns the index of the module among the filters of m, or -1.
func moduleOf(m *manager) int {
	for i, f := range m.filters {
		if strings.HasSuffix(f.typ, ".dynamic_modules.v3.DynamicModuleFilter") && f.config.at("dynamic_module_config", "name").string() == "rescind" {
			return i
		}
	}
	return -1
}

// moduleBefore reports whether the module stands before the check. inProcess then looks
// at the condition.
func moduleBefore(c *check) bool {
	if c.manager == nil {
		return false
	}
	at := moduleOf(c.manager)
	return at >= 0 && at < c.index
}

// known reports whether filter_enabled_metadata holds for every request but those that
// the module has answered.
func known(by *node) bool {
	path := by.get("path").list()
	return by.get("filter").string() == "rescind" && len(path) == 1 && path[0].get("key").string() == "known" &&
		by.at("value", "bool_match").isTrue() && by.get("invert").isTrue()
}
