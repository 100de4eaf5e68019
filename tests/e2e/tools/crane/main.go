// Command registry is the test cluster's image registry: the one that `crane registry serve` runs, with the
// referrers API switched on (crane leaves it off, and cosign's default signatures are found through it).
//
// Blobs are kept under --disk; manifests and tags live in memory, so a restarted registry is an empty one.
package main

import (
	"flag"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	address := flag.String("address", "127.0.0.1:5000", "address to listen on")
	disk := flag.String("disk", "", "folder that holds the blobs (required)")
	referrers := flag.Bool("referrers", true, "answer the referrers API; without it clients fall back to a tag")
	flag.Parse()
	if *disk == "" {
		log.Fatal("registry: --disk is required")
	}
	if err := os.MkdirAll(*disk, 0o755); err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Addr:              *address,
		Handler:           registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(*disk)), registry.WithReferrersSupport(*referrers)),
		ReadHeaderTimeout: 5 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}
