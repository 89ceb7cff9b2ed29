package lint

import (
	"path/filepath"
	"strings"
)

// SARIF returns the findings as a log of SARIF 2.1.0, which code hosts show beside the
// lines of a file.
func SARIF(findings []Finding, version string) any {
	type object = map[string]any
	level := map[Severity]string{Info: "note", Warning: "warning", Error: "error"}
	described, index := []object{}, map[string]int{}
	for i, r := range rules {
		index[r.ID] = i
		described = append(described, object{
			"id": r.ID, "shortDescription": object{"text": r.Danger}, "help": object{"text": r.Fix},
			"defaultConfiguration": object{"level": level[r.Severity]},
		})
	}
	results := []object{}
	for _, f := range findings {
		results = append(results, object{
			"ruleId": f.Rule, "ruleIndex": index[f.Rule], "level": level[f.Severity],
			"message": object{"text": f.Reason + " " + f.Fix},
			"locations": []object{{"physicalLocation": object{
				"artifactLocation": object{"uri": uri(f.File)},
				"region":           object{"startLine": f.Line, "startColumn": f.Column},
			}}},
		})
	}
	return object{
		"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0",
		"runs": []object{{
			"tool":       object{"driver": object{"name": "rescind lint", "version": version, "rules": described}},
			"columnKind": "unicodeCodePoints",
			"results":    results,
		}},
	}
}

// uri returns the path of a file as a relative URI reference.
func uri(path string) string {
	var b strings.Builder
	for _, c := range []byte(filepath.ToSlash(path)) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + strings.ToUpper(hex(c)))
		}
	}
	return b.String()
}

func hex(c byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[c>>4], digits[c&15]})
}
