package spec

import (
	"slices"
	"strings"
)

// Closest returns the candidate that a mistyped word most likely means, or "".
func Closest(word string, candidates []string) string {
	lower := strings.ToLower(word)
	best, bestDistance := "", max(1, len(word)/3)+1
	if len(word) > 64 {
		return ""
	}
	for _, c := range candidates {
		// Where not one letter is left, nobody meant it.
		if d := editDistance(lower, strings.ToLower(c)); d < bestDistance && d < max(len(word), len(c)) {
			best, bestDistance = c, d
		}
	}
	return best
}

// BySynonym finds the field that goes by another name in people's minds.
func BySynonym(word string, fields []Field) (Field, bool) {
	lower := strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(word))
	for _, f := range fields {
		if strings.ToLower(f.Key()) == lower || slices.Contains(f.Synonyms, lower) {
			return f, true
		}
	}
	return Field{}, false
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours that turn a into b.
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// Join writes a list for a sentence: "a, b and c".
func Join(words []string, and string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " " + and + " " + words[last]
}
