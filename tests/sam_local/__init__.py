"""The functions as `sam local` runs them: in containers, behind its imitation of API Gateway, with emulators for AWS."""
