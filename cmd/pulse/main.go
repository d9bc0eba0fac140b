// Command pulse records domain events and looks after what handles them. See pulse --help.
package main

import (
	"os"

	"github.com/edupulse-live/pulse/internal/cli"
)

func main() { os.Exit(cli.Main()) }
