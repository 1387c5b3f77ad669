package main

import (
	"fmt"
	"regexp"
)

// secretShape is what a key or a signature of a hub looks like wherever it
// stands: in a connection string, in a SAS token, or in a part of either.
var secretShape = regexp.MustCompile(`(?i)SharedAccessKey\s*=\s*[^;\s]|SharedAccessSignature\s*[= ]\s*\S|\bsig=[^&\s]`)

// secretValue is the shape with what stands before the secret itself.
var secretValue = regexp.MustCompile(`(?i)(SharedAccessKey\s*=\s*|SharedAccessSignature\s*[= ]\s*|\bsig=)[^;&\s"'\\]+`)

// withoutSecrets returns a text with the keys and signatures in it masked. No text
// that is meant to be shown has any: they come from a file, a hub or a gateway
// that holds another thing than was thought.
func withoutSecrets(text []byte) []byte { return secretValue.ReplaceAll(text, []byte("${1}***")) }

// checkArguments refuses a command line that holds a secret, before any part of
// it is read, echoed or written down. A path was meant where the text of the
// file stands, most likely.
func checkArguments(args []string) error {
	for i, arg := range args {
		if secretShape.MatchString(arg) {
			return usageError(
				fmt.Sprintf("argument %d holds a key or a signature of a hub (not shown); every user of this machine can read arguments", i+1),
				"put the connection string into "+connectionStringVar+", or into a file and name the file with --connection-string-file; then renew the key")
		}
	}
	return nil
}
