package cli

import (
	"runtime/debug"

	"github.com/spf13/cobra"
)

type versionJSON struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified"`
}

func newVersionCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of pulse",
		Long:  "Version prints the version of pulse, and of the Go that built it.",
		Example: `  pulse version
  pulse version --json`,
		Args: positional(),
		RunE: func(*cobra.Command, []string) error {
			v := versionOf(debug.ReadBuildInfo())
			if env.json {
				return env.printJSON(v)
			}
			text := "pulse " + v.Version
			if v.Revision != "" {
				text += " (" + v.Revision[:min(12, len(v.Revision))]
				if v.Modified {
					text += ", modified"
				}
				text += ")"
			}
			return env.printf("%s, built with %s\n", text, v.Go)
		},
	}
}

func versionOf(info *debug.BuildInfo, ok bool) versionJSON {
	if !ok {
		return versionJSON{Version: "unknown", Go: "unknown"}
	}
	v := versionJSON{Version: info.Main.Version, Go: info.GoVersion}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}
