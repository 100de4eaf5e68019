// Command distribution is a registry without the referrers API: github.com/distribution/distribution as it is, with the
// one storage driver that a test needs and none of the clouds'.
//
// Everything is kept in memory, so a restarted registry is an empty one.
package main

import (
	"context"
	"flag"
	"log"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
)

func main() {
	address := flag.String("address", ":5001", "where it listens")
	flag.Parse()

	config := &configuration.Configuration{
		Version: configuration.MajorMinorVersion(0, 1),
		Storage: configuration.Storage{"inmemory": nil},
	}
	config.Log.Level = "warn"
	config.HTTP.Addr = *address
	server, err := registry.NewRegistry(context.Background(), config)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.ListenAndServe())
}
