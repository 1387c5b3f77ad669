// Package browser holds tests alone: a browser opens the page that render makes of a
// report, and a reader of JUnit reads that form of it. make browser installs what they
// need; where it is missing, the tests say so.
package browser
