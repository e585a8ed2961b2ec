"""The online side of Kindling: a published bundle in, ranked items out."""
