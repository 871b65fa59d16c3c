"""Tools, whatever they are written in: `dispatch.call` is the way in."""
