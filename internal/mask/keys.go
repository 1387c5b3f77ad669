package mask

import "regexp"

// KeyShape is what a key or a signature of a hub looks like wherever it
// stands: in a connection string, in a SAS token, or in a part of either.
var KeyShape = regexp.MustCompile(`(?i)SharedAccessKey\s*=\s*[^;\s]|SharedAccessSignature\s*[= ]\s*\S|\bsig=[^&\s]`)

// secretValue is the shape with what stands before the secret itself.
var secretValue = regexp.MustCompile(`(?i)(SharedAccessKey\s*=\s*|SharedAccessSignature\s*[= ]\s*|\bsig=)[^;&\s"'\\]+`)

// Keys returns a text with the keys and signatures in it masked. No text
// that is meant to be shown has any: they come from a file, a hub or a gateway
// that holds another thing than was thought.
func Keys(text []byte) []byte { return secretValue.ReplaceAll(text, []byte("${1}***")) }
