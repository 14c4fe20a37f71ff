// Package packages tests what make packages makes, in a guest that has nothing of Fermata: installed, upgraded, removed, purged.
package packages
