// Package pace says how fast a hub may be asked, and when it is not ready.
package pace
